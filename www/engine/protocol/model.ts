/** What was opened. */

/** What kind of file holds a model: those of a Hugging Face folder, or llama.cpp's. */
export type Container = 'safetensors' | 'gguf'

export interface ModelReport {
  name: string
  architecture: string
  layers: number
  hidden_size: number
  intermediate_size: number
  heads: number
  kv_heads: number
  head_dim: number
  vocab_size: number
  /** Longest context in tokens that the config declares. */
  context: number
  parameters: number
  parameters_per_layer: number
  /** Bytes of all tensors. */
  bytes: number
  bytes_per_layer: number
  /** Dtype of the layers' matrices, e.g. "F16"; "mixed" where they differ. */
  dtype: string
  /** Types of all tensors, that of the most bytes first. */
  dtypes: string[]
  tied_head: boolean
  sliding_window: number | null
  /** What each layer is, in words; absent where all layers are alike. */
  kinds?: string[]
  /** Experts in a layer that has experts, and how many of them serve each token; absent where there are none. */
  experts?: [number, number]
  /** What it was read from. */
  container: Container
  /** Files that were recognised and will be read or copied. */
  files: string[]
  /** What the reader should know of how the files were read, in sentences; absent where there is nothing. */
  notes?: string[]
}
