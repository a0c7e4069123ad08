"""Pages that try to call a server, or to read a file, in every way that we know of; and a server that hears
of it."""
import contextlib
import http.server
import socket
import threading

SECRET = "the-secret-of-a-file"

# What loads, asks or connects while the page stands. {url} is the trap's, {port} its port, {file} a file's.
BESIDE = """<!doctype html><html manifest="{url}/manifest"><head><title>hostile</title>
<link rel="stylesheet" href="{url}/sheet"><link rel="dns-prefetch" href="{url}/dns">
<link rel="preconnect" href="{url}/"><link rel="prefetch" href="{url}/prefetch">
<link rel="preload" as="image" href="{url}/preload"><link rel="modulepreload" href="{url}/module">
<link rel="icon" href="{url}/icon"><link rel="stylesheet" href="{file}">
<style>@import "{url}/import"; body {{background: url("{url}/background")}}
@font-face {{font-family: far; src: url("{url}/font")}}
p {{font-family: far; cursor: url("{url}/cursor"), auto}}
</style></head><body><h1>hostile</h1><p id="said">said:</p>
<img src="{url}/img" srcset="{url}/srcset 2x"><img src="{file}"><iframe src="{url}/iframe"></iframe>
<iframe src="{file}"></iframe><iframe srcdoc="<img src='{url}/srcdoc'>"></iframe>
<iframe src="view-source:{file}"></iframe><object data="{url}/object"></object><object data="{file}"></object>
<embed src="{url}/embed"><embed src="{file}"><a href="{url}/a" ping="{url}/ping">a</a>
<video src="{url}/video" poster="{url}/poster" autoplay></video>
<audio src="{url}/audio" autoplay></audio><input type="image" src="{url}/input">
<svg><image href="{url}/svg"/><use href="{url}/use#a"/>
<foreignObject><img src="{url}/foreign"/></foreignObject></svg>
<table background="{url}/table"><tr><td>x</td></tr></table><script src="{url}/script"></script>
<script>
const say = text => document.getElementById("said").append(" " + text);
const tries = [
  () => fetch("{url}/fetch", {{mode: "no-cors", method: "POST", body: "x"}}), () => fetch("{file}"),
  () => navigator.sendBeacon("{url}/beacon", "x"), () => new WebSocket("ws://127.0.0.1:{port}/socket"),
  () => new EventSource("{url}/events"), () => import("{url}/dynamic"), () => new Worker("{url}/worker"),
  () => navigator.serviceWorker.register("{url}/service"), () => window.open("{url}/window"),
  () => {{ const asked = new XMLHttpRequest(); asked.open("GET", "{file}", false); asked.send();
          say(asked.responseText); }},
  () => {{ const asked = new XMLHttpRequest(); asked.open("GET", "{url}/xhr", false); asked.send(); }},
  () => {{ const peer = new RTCPeerConnection({{iceServers: [{{urls: "stun:127.0.0.1:{port}"}}]}});
          peer.createDataChannel("x");
          peer.createOffer().then(offer => peer.setLocalDescription(offer)); }},
  () => document.querySelectorAll("iframe").forEach(each => say(each.contentDocument?.body?.innerText))];
for (const each of tries)
  try {{ each()?.then?.(async got => say(await got.text()), () => 0); }} catch {{}}
</script></body></html>"""

# What sends the browser elsewhere.
ELSEWHERE = {
    "refresh": '<meta http-equiv="refresh" content="0;url={url}/refresh"><h1>x</h1>',
    "refresh_file": '<meta http-equiv="refresh" content="0;url={file}"><h1>x</h1>',
    "form": '<form id=f method=post action="{url}/form"></form><script>f.submit()</script>',
    "top": '<h1>x</h1><script>top.location = "{url}/top"</script>',
    "location": '<h1>x</h1><script>location = "{url}/location"</script>',
    "location_file": '<h1>x</h1><script>location = "{file}"</script>'}


@contextlib.contextmanager
def trap():
    """(url, hits): a server on loopback and what came to it, over TCP, and over UDP at the same port."""
    hits = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            hits.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_POST = do_HEAD = do_OPTIONS = do_GET

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        def verify_request(self, *_):
            hits.append("connection")
            return True

    server = Server(("127.0.0.1", 0), Handler)
    packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    packets.bind(("127.0.0.1", server.server_port))
    packets.setblocking(False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", hits
        with contextlib.suppress(BlockingIOError):
            hits.append(("packet", packets.recv(2000)))
    finally:
        server.shutdown()
        server.server_close()
        packets.close()


def filled(page, url, file):
    return page.format(url=url, port=url.rpartition(":")[2], file=file.as_uri())
