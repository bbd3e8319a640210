/** What was opened. Made by `npm run protocol` from src/protocol/; not to be edited. */

/** File format of a model. */
export type Container = 'safetensors' | 'gguf'

/** Settings, sizes and files of a model. */
export type ModelReport = {
  /** Name under which the model was opened. */
  name: string
  /** Kind of file that holds the model. */
  container: Container
  /** Name of the architecture as the model's files spell it. */
  architecture: string
  /** Number of decoder layers. */
  layers: number
  /** Width of the residual stream. */
  hidden_size: number
  /** Width of the MLP between its up and down projections. */
  intermediate_size: number
  /** Number of query heads. */
  heads: number
  /** Number of key and value heads. */
  kv_heads: number
  /** Width of a head. */
  head_dim: number
  /** Number of rows of the embedding. */
  vocab_size: number
  /** Longest declared context in tokens. */
  context: number
  /** Number of parameters of all tensors. */
  parameters: number
  /** Number of parameters of one layer. */
  parameters_per_layer: number
  /** Stored size of all tensors in bytes. */
  bytes: number
  /** Stored size of the largest layer's tensors in bytes. */
  bytes_per_layer: number
  /** Element type of the layers' matrices; "mixed" if they differ. */
  dtype: string
  /** Element types of all tensors, by falling number of bytes. */
  dtypes: Array<string>
  /** Whether the output head shares its weights with the embedding. */
  tied_head: boolean
  /** Number of tokens that a position attends to, itself included, if limited. */
  sliding_window: number | null
  /** What each layer is, in words; empty if all layers are alike. */
  kinds?: Array<string>
  /** Number of experts in a layer that has experts, and how many of them serve each token. */
  experts?: [number, number]
  /** Names of the weight files and of the files that are copied. */
  files: Array<string>
  /** What the reader should know of how the files were read, in sentences. */
  notes?: Array<string>
}
