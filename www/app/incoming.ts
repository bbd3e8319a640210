/** Whatever comes in by a drop, a choice of files or the system: a model, a result, importances, or a text. */
import { Failure } from '../engine/errors'
import type { Opened } from '../engine/source'
import { refuseInRun, resultIn, showResult } from '../share/open'
import { isImatrix, openImatrix } from '../take/imatrix'
import { readText } from '../text/texts'
import type { Actions } from './actions'

/** A single file that holds a result is shown, one of importances is used, a text is what is run through the model; everything else is opened as a model. */
export async function openAnything(actions: Actions, opened: Opened): Promise<void> {
  refuseInRun(actions)
  const [only, another] = opened.files
  const alone = only && !another && 'file' in only ? only : null
  if (alone && (await isImatrix(alone))) return void (await openImatrix(actions, alone))
  if (alone && /\.(txt|md)$/i.test(alone.name)) return takeText(actions, alone.file)
  const result = alone && (await resultIn(alone.file, alone.name))
  if (result) showResult(actions, result, only?.name ?? '', null)
  else await actions.open(opened)
}

/** Runs a text of the user's own through the model from now on. */
async function takeText({ state }: Actions, file: File): Promise<void> {
  if (!state.model)
    throw new Failure('usage', `${file.name} is a text. Open a model first; then a text can be run through it.`)
  Object.assign(state.calibration, await readText(file))
  state.notice = null
  state.remark = `${file.name} is now the text that is run through the model. Compare the layers again to use it.`
}
