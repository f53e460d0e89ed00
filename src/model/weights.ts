import type { Stage } from "./decoder.js";

/**
 * Float32 values of a tensor of the checkpoint, by name. Each call gives an array of its own: the engine keeps it.
 */
export type ReadTensor = (name: string) => Promise<Float32Array<ArrayBuffer>>;

/** Some rows of a tensor of the checkpoint, by name, in the order asked for [rows.length, width]. */
export type ReadRows = (name: string, rows: ArrayLike<number>) => Promise<Float32Array<ArrayBuffer>>;

/** The values of a stage's weights, by their names in its graph, to be handed to `Engine.prepare`. */
export async function weightsOf(stage: Stage, readTensor: ReadTensor): Promise<Map<string, Float32Array<ArrayBuffer>>> {
  const values = new Map<string, Float32Array<ArrayBuffer>>();
  for (const { name, shape } of stage.graph.weights) {
    const source = stage.weights.get(name);
    if (!source) throw new Error(`stage "${stage.name}" has no source for its weight ${name}`);
    if ("table" in source) {
      values.set(name, source.table(shape[0] ?? 0));
    } else {
      const read = await readTensor(source.tensor);
      const { plus = 0 } = source;
      values.set(name, plus === 0 ? read : read.map((value) => value + plus));
    }
  }
  return values;
}
