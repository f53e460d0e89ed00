import { expect, it } from "vitest";
import { hubAddressOf } from "#src/hub/address.js";

const ENDPOINT = "http://127.0.0.1:1234";
const model = (id: string, revision?: string) => ({ repo: { type: "model", id }, ...(revision !== undefined && { revision }) });
const dataset = (id: string, revision?: string) => ({ repo: { type: "dataset", id }, ...(revision !== undefined && { revision }) });

it.each([
  ["meta-llama/Llama-3.2-1B", model("meta-llama/Llama-3.2-1B")],
  ["org/name@main", model("org/name", "main")],
  ["org/name@refs/pr/1", model("org/name", "refs/pr/1")],
  ["org/name@v1.0@b", model("org/name", "v1.0@b")],
  ["https://huggingface.co/org/name", model("org/name")],
  ["https://huggingface.co/org/name/", model("org/name")],
  ["https://hf.co/org/name?library=transformers", model("org/name")],
  ["http://127.0.0.1:1234/org/name/tree/dev", model("org/name", "dev")],
  ["https://huggingface.co/org/name/tree/refs%2Fpr%2F1", model("org/name", "refs/pr/1")],
  ["https://huggingface.co/org/name/tree/refs/pr/1/onnx", model("org/name", "refs/pr/1")],
  ["https://huggingface.co/org/name/blob/main/config.json", model("org/name", "main")],
  ["https://huggingface.co/org/name/resolve/main/model.safetensors", model("org/name", "main")],
  ["https://huggingface.co/gpt2", model("gpt2")],
  ["https://huggingface.co/gpt2/tree/main", model("gpt2", "main")],
  ["https://huggingface.co/datasets/org/name", dataset("org/name")],
  ["https://huggingface.co/datasets/org/name/tree/main/en", dataset("org/name", "main")],
])("finds the repo in %s", (text, expected) => {
  expect(hubAddressOf(text, ENDPOINT)).toEqual(expected);
});

it.each([
  "model", "./org/name", "../name", "/org/name", "~/models/x", "a/b/c", "a\\b", "org/", "/name", "org/name/", "models/model.safetensors", "models/x.gguf", "C:/models",
  "org/a--b", "org/a..b", "org/name.git", "org/-a", "org/a.", "org/na me", `org/${"a".repeat(97)}`, "org/name@", "org/name@a b", "org/name@../x", "https://example.com/org/name",
  "https://huggingface.co/", "https://huggingface.co/spaces/org/name", "https://huggingface.co/org/name/tree/%E0%A4%A", "https://", "",
])("takes %j for a path", (text) => {
  expect(hubAddressOf(text, ENDPOINT)).toBeUndefined();
});

it("knows an endpoint that has a path of its own", () => {
  expect(hubAddressOf("https://mirror.example/hf/org/name/tree/v1", "https://mirror.example/hf")).toEqual(model("org/name", "v1"));
});
