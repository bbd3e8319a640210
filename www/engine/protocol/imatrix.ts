/** Importances of the columns of matrices, as files hold them. Made by `npm run protocol` from src/protocol/; not to be edited. */

/** An importance matrix, as a recipe knows it again. */
export type ImatrixFile = {
  /** Name of the file. */
  name: string
  /** Hash of its bytes. */
  hash: string
}

/** An importance matrix that was read from a file and is used. */
export type UsedImatrix = {
  /** Names of the texts that it was collected on. */
  datasets: Array<string>
  /** Number of tokens that it was collected on: the most that any matrix has seen. */
  tokens: number
  /** Name of the file. */
  name: string
  /** Hash of its bytes. */
  hash: string
}
