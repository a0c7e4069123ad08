// What is wrong with how a page looks: {small: [...], unnamed: [...], faint: [...], wide: [...]}, each empty
// where nothing is.
(() => {
  const all = selector => [...document.querySelectorAll(selector)];
  const shown = element => element.outerHTML.slice(0, 120);

  // What is touched has at least 44 pixels each way.
  const small = all("button, input, textarea, summary, select, a[href]:not(.jump)").filter(each => {
    const box = each.getBoundingClientRect();
    return each.offsetParent && !each.closest("dialog:not([open])") && (box.width < 43.5 || box.height < 43.5);
  });

  const unnamed = all("button, input, textarea, iframe, img, [role=group]").filter(each =>
    !each.innerText?.trim() && !each.ariaLabel && !each.title && !each.alt && !each.labels?.length &&
    !each.getAttribute("aria-labelledby"));

  // Text whose contrast with what is behind it is below 4.5 to 1, as WCAG 2 reckons it.
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const over = (colour, under) => {
    for (const fill of [`rgb(${under.join()})`, colour]) {
      canvas.fillStyle = fill;
      canvas.fillRect(0, 0, 1, 1);
    }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const behind = element => element ? over(getComputedStyle(element).backgroundColor, behind(element.parentElement))
    : [255, 255, 255];
  const linear = each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4;
  const light = rgb => [0.2126, 0.7152, 0.0722].reduce((sum, part, at) => sum + part * linear(rgb[at] / 255), 0);
  const faint = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.data.trim();
    const element = texts.currentNode.parentElement;
    const there = element.checkVisibility({visibilityProperty: true}) && !element.closest(":disabled, .jump, noscript");
    if (!text || !there) continue;
    const style = getComputedStyle(element);
    const under = behind(element);
    const own = over(element instanceof SVGElement ? style.fill : style.color, under);
    const [more, less] = [light(own), light(under)].sort((a, b) => b - a);
    const contrast = (more + 0.05) / (less + 0.05);
    if (contrast < 4.5) faint.push([text.slice(0, 40), contrast]);
  }

  const wide = [document.documentElement, document.getElementById("main")].filter(each => each.scrollWidth > innerWidth);
  return {small: small.map(shown), unnamed: unnamed.map(shown), faint, wide: wide.map(each => each.scrollWidth)};
})()
