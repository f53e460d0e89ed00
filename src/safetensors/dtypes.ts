export type Dtype = "F16" | "BF16" | "F32" | "I32" | "I64";
