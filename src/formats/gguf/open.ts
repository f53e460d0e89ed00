import type { ContainedModel, ModelFolder } from "../format.js";
import { oneFile } from "../one-file.js";
import { readGguf } from "./read-header.js";
import { ggufModel } from "./read-model.js";

/** Opens a folder's GGUF file; config.json beside it says what its tensors mean. */
export async function openGguf(folder: ModelFolder): Promise<ContainedModel | undefined> {
  const file = oneFile(folder, /^[^/]+\.gguf$/);
  if (file === undefined) return undefined;
  const where = `${folder.label}/${file}`;
  const header = await readGguf((start, end) => folder.read(file, start, end), folder.files.get(file)!, where);
  const { tensors, packed } = ggufModel(header, folder.decoder(), where);
  return { tensors: tensors.map((tensor) => ({ ...tensor, file })), packed };
}
