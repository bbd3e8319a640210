/** Whatever comes in by a drop, a choice of files or the system: a model, a result, or importances. */
import type { Opened } from '../engine/source'
import { refuseInRun, resultIn, showResult } from '../share/open'
import { isImatrix, openImatrix } from '../take/imatrix'
import type { Actions } from './actions'

/** A single file that holds a result is shown, one of importances is used; everything else is opened as a model. */
export async function openAnything(actions: Actions, opened: Opened): Promise<void> {
  refuseInRun(actions)
  const [only, another] = opened.files
  const alone = only && !another && 'file' in only ? only : null
  if (alone && (await isImatrix(alone))) return void (await openImatrix(actions, alone))
  const result = alone && (await resultIn(alone.file, alone.name))
  if (result) showResult(actions, result, only?.name ?? '', null)
  else await actions.open(opened)
}
