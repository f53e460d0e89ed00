import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { InputError } from "#src/errors.js";
import type { Measured } from "./measurer.js";
import type { Cost } from "./quantize.js";

/** Another quantizer, and what it made already, if that is there. */
export interface Peer {
  readonly name: string;
  readonly folder?: string;
}

const KNOWN = /^(gptqmodel|llm-compressor(-rtn)?|autoround(-\d+)?)$/;

/** NAME or NAME=FOLDER. */
export function peerNamed(text: string): Peer {
  const [name, folder] = text.split("=") as [string, string?];
  if (!KNOWN.test(name)) throw new InputError(`${name} is no peer; there are gptqmodel, llm-compressor, llm-compressor-rtn, autoround and autoround-ITERATIONS`);
  if (folder !== undefined && !existsSync(folder)) throw new InputError(`${folder}: is not there`);
  return { name, ...(folder !== undefined && { folder }) };
}

/** Has a peer quantize, unless `output` holds its result of an earlier run already. Its seconds leave out the loading of the model. */
export function runPeer(peer: Peer, model: string, calibration: string, output: string, bits: number, groupSize: number): { output: string; cost: Cost } {
  const folder = peer.folder ?? output;
  const cost = join(folder, "cost.json");
  if (peer.folder === undefined && !existsSync(cost)) {
    execFileSync(script("run.sh"), [peer.name, model, calibration, folder, "--bits", String(bits), "--group-size", String(groupSize)], { stdio: ["ignore", "ignore", "inherit"] });
  }
  return { output: folder, cost: JSON.parse(readFileSync(cost, "utf8")) as Cost };
}

/** The same measures by transformers, with weights that GPTQModel or compressed-tensors dequantized. */
export function measureByReaders(original: string, windows: string, folder: string): Measured & { readonly bitsAWeight: number } {
  const python = execFileSync(script("venv.sh"), ["readers"], { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] }).trim();
  const told = execFileSync(python, [script("evaluate.py"), original, windows, folder], { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], maxBuffer: 2 ** 28 });
  return JSON.parse(told) as Measured & { readonly bitsAWeight: number };
}

function script(name: string): string {
  return fileURLToPath(new URL(`../peers/${name}`, import.meta.url));
}
