import { InputError } from "../../errors.js";
import type { ContainedModel, ModelFolder } from "../format.js";
import { oneFile } from "../one-file.js";
import { MAX_GRAPH_BYTES, readOnnx } from "./read.js";

/** Opens a folder's ONNX file, whose weights lie in files beside it. */
export async function openOnnx(folder: ModelFolder): Promise<ContainedModel | undefined> {
  const path = oneFile(folder, /^onnx\/[^/]+\.onnx$/);
  if (path === undefined) return undefined;
  const size = folder.files.get(path)!;
  if (size > MAX_GRAPH_BYTES) throw new InputError(`${folder.label}/${path} has ${String(size)} bytes; of a graph at most ${String(MAX_GRAPH_BYTES)} are read`);
  const { tensors, packed } = readOnnx(await folder.read(path, 0, size), path, folder.files, folder.label);
  return { tensors: [...tensors.values()], packed };
}
