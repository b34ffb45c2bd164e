// A development server without a model: the built app and a made-up API on one port (npm run dev:mock).
//
//   node dev/mock.mjs [--port 8090]     needs `npm run build` first
//
// It speaks gRPC-Web through connect's own handlers, with the content security policy of the real gateway.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

import { createConnectRouter } from "@connectrpc/connect";

import { addCatalog } from "./catalog.mjs";
import { addExplore } from "./explore.mjs";
import { addFeatures } from "./features.mjs";
import { addJobs } from "./jobs.mjs";

const dist = join(dirname(fileURLToPath(import.meta.url)), "..", "dist");
const port = Number(process.argv[process.argv.indexOf("--port") + 1]) || 8090;

const router = createConnectRouter({ grpc: false, connect: false });
for (const add of [addCatalog, addExplore, addFeatures, addJobs]) add(router);
const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));

const types = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".woff2": "font/woff2",
};

async function callHandler(handler, request, response) {
  const abort = new AbortController();
  response.on("close", () => abort.abort());
  const answer = await handler({
    httpVersion: request.httpVersion,
    url: `http://127.0.0.1${request.url}`,
    method: request.method,
    header: new Headers(Object.entries(request.headers)),
    body: request,
    signal: abort.signal,
  });
  response.writeHead(answer.status, Object.fromEntries(answer.header ?? []));
  try {
    for await (const chunk of answer.body ?? []) response.write(chunk);
  } catch {
    // The client is gone.
  }
  response.end();
}

async function sendFile(request, response) {
  const path = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname));
  const name = path === "/" || (extname(path) === "" || !path.startsWith("/assets")) && !path.endsWith(".svg") ? "/index.html" : path;
  const body = await readFile(join(dist, name));
  response.writeHead(200, {
    "content-type": types[extname(name)] ?? "application/octet-stream",
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'",
    "x-content-type-options": "nosniff",
  });
  response.end(body);
}

createServer((request, response) => {
  const handler = handlers.get(new URL(request.url, "http://x").pathname);
  const done = handler ? callHandler(handler, request, response) : sendFile(request, response);
  done.catch((error) => {
    if (!response.headersSent) response.writeHead(error.code === "ENOENT" ? 404 : 500);
    response.end(String(error));
  });
}).listen(port, "127.0.0.1", () => console.log(`http://127.0.0.1:${port}`));
