/** What the page hands over for reading, writing and keeping. */

/** Bytes that the engine may read in ranges: a `File` wrapped by the worker. */
export interface ByteSource {
  /** Path relative to the opened folder, with `/`. */
  readonly name: string
  readonly size: number
  read(offset: number, length: number): Promise<Uint8Array>
}

/** Where a finished model goes, file after file. */
export interface OutputFolder {
  /** Begins a file; at most one is open. */
  create(name: string): Promise<void>
  write(bytes: Uint8Array): Promise<void>
  close(): Promise<void>
  /** Size of a closed file in bytes. */
  size(name: string): Promise<number>
  /** Reads back from a closed file. */
  read(name: string, offset: number, length: number): Promise<Uint8Array>
  /** All files are there and checked: make them visible under their final names. */
  commit(): Promise<void>
  /** Something failed or was cancelled: leave nothing behind. */
  abort(): Promise<void>
}

/** Named parts that outlive a run: `PartStore` of `src/files/parts.rs`. */
export interface PartStore {
  /** Begins a part; at most one is open. It has its name when it is closed. */
  create(name: string): Promise<void>
  write(bytes: Uint8Array): Promise<void>
  close(): Promise<void>
  names(): Promise<string[]>
  size(name: string): Promise<number>
  read(name: string, offset: number, length: number): Promise<Uint8Array>
  /** A part that is not there is no error. */
  remove(name: string): Promise<void>
}
