import { parquetMetadataAsync, parquetReadObjects, parquetSchema, type AsyncBuffer, type FileMetaData } from "hyparquet";
import { compressors } from "hyparquet-compressors";

import { TEXT_FIELDS, type RecordField } from "../calibration/documents.js";
import { InputError } from "../errors.js";
import type { DataSetFiles } from "./data-set-files.js";

/** Enough for the footers of nearly all files; where it is not, the rest is read as well. */
const FOOTER_BYTES = 64 * 1024;

/** Of the wanted columns of a row group, packed. Groups have a few megabytes as a rule. */
const LARGEST_GROUP = 512 * 1024 * 1024;

/** A table's rows, as far as they are needed. */
export interface ParquetFile {
  /** How many row groups there are. */
  readonly groups: number;
  /** The wanted columns of a row group. */
  rows(group: number): Promise<readonly Readonly<Record<string, unknown>>[]>;
}

/** Opens a table by its footer, and sees to it that it has the columns: those of `field`, or the first that usually holds text. Throws `InputError`. */
export async function openParquet(files: DataSetFiles, path: string, field: RecordField | undefined): Promise<ParquetFile> {
  const label = `${files.label}/${path}`;
  let failed: { readonly error: unknown } | undefined;
  const size = files.files.get(path)!;
  const file: AsyncBuffer = {
    byteLength: size,
    async slice(start, end = size) {
      try {
        const { buffer, byteOffset, byteLength } = await files.read(path, start, end);
        return byteOffset === 0 && byteLength === buffer.byteLength ? buffer : buffer.slice(byteOffset, byteOffset + byteLength);
      } catch (error) {
        failed = { error };
        throw error;
      }
    },
  };
  /** What could not be read is told as it is; everything else is the file's fault. */
  const attempt = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      if (failed !== undefined) throw failed.error;
      if (error instanceof InputError) throw error;
      throw new InputError(`${label}: not a Parquet file that can be read (${error instanceof Error ? error.message : String(error)})`, { cause: error });
    }
  };

  const metadata = await attempt(() => parquetMetadataAsync(file, { initialFetchSize: FOOTER_BYTES }));
  const names = parquetSchema(metadata).children.map(({ element }) => element.name);
  const columns = columnsOf(names, field);
  if (columns === undefined) {
    throw new InputError(`${label}: ${field === undefined ? `has none of the columns ${TEXT_FIELDS.join(", ")}` : `lacks the column ${[field].flat().join(" or ")}`}; it has ${names.join(", ")}`);
  }
  const starts = startsOf(metadata);
  return {
    groups: metadata.row_groups.length,
    rows: (group) => attempt(async () => {
      const bytes = metadata.row_groups[group].columns.reduce((sum, { meta_data: column }) => sum + (columns.includes(column?.path_in_schema[0] ?? "") ? Number(column?.total_compressed_size) : 0), 0);
      if (bytes > LARGEST_GROUP) throw new InputError(`${label}: its row groups are of ${(bytes / 1e6).toFixed(0)} MB, too large to read one for a little text; choose another data set`);
      return parquetReadObjects({ file, metadata, columns, rowStart: starts[group], rowEnd: starts[group + 1], compressors });
    }),
  };
}

function columnsOf(names: readonly string[], field: RecordField | undefined): string[] | undefined {
  const wanted = field === undefined ? TEXT_FIELDS.filter((name) => names.includes(name)).slice(0, 1) : [field].flat();
  return wanted.length > 0 && wanted.every((name) => names.includes(name)) ? wanted : undefined;
}

/** The row that each row group starts with, and the end of the last. */
function startsOf(metadata: FileMetaData): number[] {
  const starts = [0];
  for (const group of metadata.row_groups) starts.push(starts.at(-1)! + Number(group.num_rows));
  return starts;
}
