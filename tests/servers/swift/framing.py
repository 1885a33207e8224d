"""A filter that gives every answer without a body a length. Debian's eventlet sends a
stray chunk after such answers otherwise, which breaks connections that are kept."""


def factory(_global_conf, **_conf):
    def wrap(app):
        def call(env, start_response):
            def start(status, headers, exc_info=None):
                bare = env["REQUEST_METHOD"] == "HEAD" or status[:3] in ("204", "304")
                if bare and all(k.lower() != "content-length" for k, _ in headers):
                    headers = headers + [("Content-Length", "0")]
                return start_response(status, headers, exc_info)
            return app(env, start)
        return call
    return wrap
