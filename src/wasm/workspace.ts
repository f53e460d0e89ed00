import { moduleOf, type Func } from "./code.js";

const PAGE_BYTES = 65536;

/** Compiled functions: each takes as many integers as it has parameters, addresses among them. */
export type Kernels<Name extends string> = Readonly<Record<Name, (...args: number[]) => void>>;

/** Memory of WebAssembly's, and the functions that work on it. */
export interface Workspace<Name extends string> {
  readonly kernels: Kernels<Name>;
  /** Views of the memory, one behind the other, by how many floats each has; what they hold is arbitrary. Views that were made before are void. */
  views<Part extends string>(lengths: Readonly<Record<Part, number>>): Record<Part, Float32Array<ArrayBuffer>>;
}

/**
 * Workspaces for the same functions. Memory once taken serves the next who asks: it cannot be given back at once, and is dear to get.
 * @throws {RangeError} from `views`, where there is no more memory
 */
export function workspacesOf<Name extends string>(functions: Readonly<Record<Name, Func>>): { take(): Workspace<Name>; give(workspace: Workspace<Name>): void } {
  let compiled: WebAssembly.Module | undefined;
  const idle: Workspace<Name>[] = [];
  return {
    take: () => idle.pop() ?? workspaceOf<Name>((compiled ??= new WebAssembly.Module(moduleOf(functions)))),
    give: (workspace) => { idle.push(workspace); },
  };
}

function workspaceOf<Name extends string>(compiled: WebAssembly.Module): Workspace<Name> {
  const memory = new WebAssembly.Memory({ initial: 0 });
  return {
    kernels: new WebAssembly.Instance(compiled, { "": { memory } }).exports as Kernels<Name>,
    views(lengths) {
      const entries = Object.entries<number>(lengths);
      const bytes = 4 * entries.reduce((total, [, length]) => total + length, 0);
      const missing = Math.ceil((bytes - memory.buffer.byteLength) / PAGE_BYTES);
      if (missing > 0) memory.grow(missing);
      let at = 0;
      const views = entries.map(([part, length]) => {
        const view = new Float32Array(memory.buffer, at, length);
        at += view.byteLength;
        return [part, view];
      });
      return Object.fromEntries(views) as ReturnType<typeof this.views>;
    },
  };
}
