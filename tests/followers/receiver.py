"""Receives webhooks: receiver.py PORT SECRET OUT.

Checks each with the library of Standard Webhooks, keeps those whose id is new as a line of JSON in OUT, and answers as
the number of the request says: the second with 503, the third not at all after having kept it, the fifth with a
redirect, one whose text has "count":13 with 422.
"""

import http.server
import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

port, secret, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
requests, seen = 0, set()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global requests
        requests += 1
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        headers = {key.lower(): value for key, value in self.headers.items()}
        try:
            # It wants a JSON text behind the signature; ours are lines of it.
            Webhook(secret).verify(body, headers)
        except WebhookVerificationError as error:
            return self.answer(401, str(error))
        except json.JSONDecodeError:
            pass
        if requests == 2:
            return self.answer(503, "not  now")
        if requests == 5:
            return self.answer(307, "", ("location", f"http://127.0.0.1:{port}/other"))
        if self.path != "/audit":
            return self.answer(500, "elsewhere")
        if '"count":13' in body:
            return self.answer(422, "not that one")
        if headers["webhook-id"] not in seen:
            seen.add(headers["webhook-id"])
            with open(out, "a") as file:
                file.write(json.dumps({"id": headers["webhook-id"], "body": body}) + "\n")
        if requests == 3:
            self.close_connection = True
            return
        self.answer(204, "")

    def answer(self, status, text, *headers):
        self.send_response(status)
        for key, value in headers:
            self.send_header(key, value)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
