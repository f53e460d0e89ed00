/** A hash of bytes, in hex. */
export async function digestOf(algorithm: "SHA-1" | "SHA-256", bytes: BufferSource): Promise<string> {
  const hash = await crypto.subtle.digest(algorithm, bytes);
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
