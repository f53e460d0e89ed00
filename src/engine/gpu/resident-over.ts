import type { MessagePort } from "node:worker_threads";
import { fromSquares, toSquares } from "#kernels/propagate.js";
import { DeviceLost } from "../device-lost.js";
import type { LinearAlgebra } from "../engine.js";
import { Requests, type Response } from "../threads/requests.js";
import { filledUp } from "./device.js";
import { BLOCK } from "./residents.js";

/** Residents on the device of the thread at the other end of `port`, which serves `methodsOf` them. What fails there is thrown as `DeviceLost`. */
export function residentOver(port: MessagePort, device: string): NonNullable<LinearAlgebra["resident"]> {
  const requests = new Requests((request, transfer) => { port.postMessage(request, transfer); });
  port.on("message", (response: Response) => { requests.settle(response); });
  port.on("close", () => { requests.rejectAll(new Error("its thread ended")); });
  port.unref();
  const ask = <R>(method: string, args: readonly unknown[], transfer: ArrayBuffer[] = []): Promise<R> =>
    requests.send<R>(method, args, transfer).catch((error: unknown) => {
      throw new DeviceLost(device, error instanceof Error ? error.message : String(error));
    });

  let nextId = 0;
  return (c, r) => {
    const id = nextId++;
    const columns = c.length / r.n;
    const width = columns + (columns % 2);
    // One that nothing is subtracted from need not go there.
    let there = false;
    return {
      async subtract(first, e, from) {
        if (!there) {
          const squares = toSquares(c, r.n, columns);
          await ask("create", [id, r, squares], [squares.buffer]);
          there = true;
        }
        for (let start = 0; start < e.length; start += BLOCK * columns) {
          const some = e.subarray(start, start + BLOCK * columns);
          const block = filledUp(some, columns, BLOCK, width);
          await ask("subtract", [id, first + start / columns, block, from], [block.buffer]);
        }
      },
      async fetch(from, to) {
        if (!there) return;
        const rows = c.subarray(from * columns, to * columns);
        fromSquares(await ask<Float32Array>("fetch", [id, from, to]), from, to, columns, rows);
        if (!rows.every(Number.isFinite)) throw new DeviceLost(device, "the device left NaN or infinity");
      },
      async release() {
        if (there) await ask("release", [id]);
      },
    };
  };
}
