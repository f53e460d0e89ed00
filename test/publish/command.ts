import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { LoopbackHub } from "../../scripts/loopback-hub/server.js";
import { ONE_CORE, shardsmith, type Ran } from "../cli/cli.js";
import { base64, TOKEN } from "./hub.js";

/** A quick run, to several shards. */
export const ROUNDED = ["--method", "rtn", "--max-shard-size", "200kB", ...ONE_CORE];

/** Runs the command line against a Hub. */
export function runAt(hub: LoopbackHub, args: readonly string[], onLine?: Parameters<typeof shardsmith>[1], token = TOKEN): Promise<Ran> {
  return shardsmith(args, onLine, `export HF_ENDPOINT=${hub.url} HF_HOME='${join(tmpdir(), "no-such-folder")}' HF_TOKEN=${token}`);
}

/** What a folder holds. */
export function filesIn(folder: string): Record<string, string> {
  return base64(Object.fromEntries(readdirSync(folder).filter((name) => !name.startsWith(".")).map((name) => [name, readFileSync(join(folder, name))])));
}

export function shardsIn(folder: string): string[] {
  return readdirSync(folder).filter((name) => name.endsWith(".safetensors"));
}

export function onlyShards(all: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(all).filter(([name]) => name.endsWith(".safetensors")));
}

export function hashOf(file: string): string {
  return createHash("sha256").update(readFileSync(file)).digest("hex");
}
