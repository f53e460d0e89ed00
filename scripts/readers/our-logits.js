// What Shardsmith itself computes with a checkpoint that it wrote: the other side of the comparison with others' readers.
import { writeFile } from "node:fs/promises";
import { runStages } from "#src/model/forward.js";
import { capLogits, embeddingOf, finalNormStage, lmHeadOf, logitsGraph } from "#src/model/head.js";
import { embedBatch } from "#src/pipeline/batches.js";
import { openModel } from "#src/pipeline/model.js";
import { tokenizerOf } from "#src/pipeline/tokenizer.js";
import { fromFloat32 } from "#src/safetensors/floats.js";
import { planShards } from "#src/safetensors/layout.js";
import { openFolder } from "#src/source/folder.js";

/**
 * Writes a safetensors file with `logits` [tokens, vocabulary] for the tokens of `text`, `tokens` themselves (as float32), and the
 * dequantized weight of every packed linear under its own name; all by the code behind `shardsmith eval`, on `engine`.
 */
export async function writeOurLogits(engine, folder, text, file) {
  const source = await openFolder(folder);
  try {
    const model = await openModel(source);
    const { decoder, checkpoint } = model;
    const tokens = (await tokenizerOf(checkpoint)).encode(text, { addSpecialTokens: true });
    const stages = Array.from({ length: decoder.layers }, (_, layer) => decoder.stages(layer, tokens.length)).flat();
    let [x] = await all(runStages(engine, stages, model.load, [await embedBatch(model.loadRows, decoder, [tokens])]));
    [x] = await all(runStages(engine, [finalNormStage(decoder)], model.load, [x]));
    const head = await model.load(decoder.lmHead.tensor);
    const graph = await engine.prepare(logitsGraph(decoder.hiddenSize, decoder.vocabSize), new Map([["lm_head", head]]));
    const { data } = (await graph.run({ x })).outputs.logits;
    await graph.release();
    capLogits(data, decoder.lmHead.softcap);

    const tensors = [
      { name: "logits", shape: [tokens.length, decoder.vocabSize], data },
      { name: "tokens", shape: [tokens.length], data: Float32Array.from(tokens) },
    ];
    const tables = [lmHeadOf(decoder), embeddingOf(decoder)].filter((linear) => linear !== undefined);
    for (const { name, outFeatures, inFeatures } of [...stages.flatMap((stage) => stage.linears), ...tables]) {
      const plain = checkpoint.tensors.get(`${name}.weight`);
      // MLX calls packed ones so, too.
      if (plain !== undefined && plain.dtype !== "U32") continue;
      tensors.push({ name, shape: [outFeatures, inFeatures], data: await model.load(`${name}.weight`) });
    }
    const [{ header }] = planShards(tensors.map(({ name, shape }) => ({ name, shape, dtype: "F32" })), Infinity);
    await writeFile(file, Buffer.concat([header, ...tensors.map((tensor) => fromFloat32(tensor.data, "F32"))]));
  } finally {
    await source.close();
  }
}

async function all(generator) {
  const values = [];
  for await (const value of generator) values.push(value);
  return values;
}
