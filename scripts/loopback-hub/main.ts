// Serves a model's folder as the private repo NAME, and prints the address; ends with its standard input.
//   npx tsx scripts/loopback-hub/main.ts FOLDER NAME TOKEN [PORT]
// Other repos may be made and written with the token. Large files go up in parts of 1 MiB.
import { filesOf } from "./files-of.js";
import { startLoopbackHub } from "./server.js";

const [folder, id, token, port = "0"] = process.argv.slice(2);
const hub = await startLoopbackHub({ token, port: Number(port), partSize: 1024 * 1024, repos: [{ type: "model", id, files: filesOf(folder), private: true }] });
console.log(hub.url);
process.stdin.resume().on("end", () => void hub.close());
