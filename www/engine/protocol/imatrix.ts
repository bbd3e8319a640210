/** Importances of the columns of matrices, as files hold them. */

/** A file of importances, as results know it again. */
export interface ImatrixFile {
  name: string
  /** Of its bytes. */
  hash: string
}

/** What a file of importances that is used says of itself. */
export interface UsedImatrix extends ImatrixFile {
  /** Texts that it was collected on. */
  datasets: string[]
  tokens: number
}
