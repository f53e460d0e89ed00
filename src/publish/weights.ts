/** The files that make a folder or a repo a checkpoint; they sort such that config.json comes first. */
export const CHECKPOINT_FILE = /^(config\.json|model.*\.safetensors|model\.safetensors\.index\.json|model.*\.gguf|onnx\/model.*\.onnx(_data.*)?|quantize_config\.json|shardsmith\.json)$/;
