// The same worker in JavaScript, served by a local workerd. Prints its port when it is ready.
import { createRequire } from "node:module";

const [, , modules, persist] = process.argv;
const { Miniflare } = createRequire(modules + "/")("miniflare");

const script = `
export class Counter {
  constructor(state, env) { this.state = state; this.env = env; this.count = 0; }
  async fetch(request) {
    const path = new URL(request.url).pathname;
    if (path === "/memory") return Response.json({ count: ++this.count });
    const count = ((await this.state.storage.get("count")) ?? 0) + 1;
    await this.state.storage.put("count", count);
    if (path === "/storage") return Response.json({ count });
    await this.env.SETTINGS.put("last-room", this.state.id.toString());
    return Response.json({ theme: await this.env.SETTINGS.get("theme"), count });
  }
}
export default {
  fetch(request, env) {
    const id = new URL(request.url).searchParams.get("id");
    return env.COUNTERS.get(env.COUNTERS.idFromName(id)).fetch(request);
  },
};`;

const miniflare = new Miniflare({
  modules: true,
  script,
  compatibilityDate: "2025-01-01",
  durableObjects: { COUNTERS: { className: "Counter", useSQLite: true } },
  kvNamespaces: ["SETTINGS"],
  durableObjectsPersist: persist + "/do",
  kvPersist: persist + "/kv",
  host: "127.0.0.1",
  port: 0,
});
console.log((await miniflare.ready).port);
process.stdin.on("end", () => miniflare.dispose());
process.stdin.resume();
