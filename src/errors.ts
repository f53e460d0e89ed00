/**
 * Something that the person at the keyboard can mend: bad input, a full disk, a wrong option. Its message names the
 * file, the tensor and what is wrong; the command line prints it without a stack trace.
 */
export class InputError extends Error {
  override readonly name = "InputError";
}
