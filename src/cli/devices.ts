import type { Argv, ArgumentsCamelCase } from "yargs";
import { gigabytes, gigaflops } from "../engine/hessian-speed.js";
import { devices } from "../index.js";
import { table } from "./table.js";
import { formatBytes } from "./units.js";

export const command = "devices";
export const describe = "List what can do a run's arithmetic, and how fast it does";

export function builder(yargs: Argv) {
  return yargs
    .option("threads", { type: "number", describe: "threads of the CPU [default: one a core]" })
    .option("json", { type: "boolean", default: false, describe: "print JSON" });
}

type Arguments = ArgumentsCamelCase<Awaited<ReturnType<ReturnType<typeof builder>["parseAsync"]>>>;

export async function run({ threads, json }: Arguments): Promise<void> {
  const found = await devices(threads === undefined ? {} : { threads });
  if (json) {
    console.log(JSON.stringify(found));
    return;
  }
  const { cpu, gpus, problem } = found;
  console.log(table(["device", ">Hessians", ">largest buffer"], [
    [`CPU: ${cpu.engine}`, gigaflops(cpu.speed), ""],
    ...gpus.map(({ name, software, largestBuffer, speed }) => [`GPU: ${name}${software ? ", software" : ""}`, speed === undefined ? "" : gigaflops(speed), formatBytes(largestBuffer)]),
  ]));
  for (const { name, kernels } of gpus) {
    if (kernels === undefined) continue;
    console.log(`\nKernels on ${name}`);
    console.log(table(["kernel", ">arithmetic", ">memory"], kernels.map((kernel) => [kernel.name, kernel.flops > 0 ? gigaflops(kernel.flops) : "", gigabytes(kernel.bytes)])));
    console.log();
  }
  if (problem !== undefined) console.log(problem);
  const [first] = gpus;
  if (first?.speed === undefined) return;
  console.log(!first.software && first.speed > cpu.speed ? `quantize takes ${first.name}.` : "quantize takes the CPU; --device gpu takes the GPU all the same.");
}
