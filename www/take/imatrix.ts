/** Importances of the model that is open: from a file, or taken away again, and those of the result as a file. */
import type { Actions } from '../app/actions'
import { Failure } from '../engine/errors'
import type { LocalFile } from '../engine/messages'
import type { UsedImatrix } from '../engine/protocol/imatrix'
import { plural, whole } from '../ui/format'
import { saveBlob } from '../ui/save'
import { modelName } from './save'

/** The kind of a file stands among the first entries of its metadata. */
const HEAD = 65_536
/** Keys and words of GGUF files have their length before them, in 8 bytes, and a key the number of its kind, 8 for a word. */
const IS_IMATRIX = `general.type\x08\0\0\0\x07\0\0\0\0\0\0\0imatrix`

/** Whether a file holds importances and no model, by what is in it; one in llama.cpp's older format by its name. */
export async function isImatrix({ name, file }: LocalFile): Promise<boolean> {
  const head = new TextDecoder('latin1').decode(await file.slice(0, HEAD).arrayBuffer())
  if (head.startsWith('GGUF')) return head.includes(IS_IMATRIX)
  return /\.(dat|imatrix)$/i.test(name)
}

/** Uses the importances of a file from now on. True when the engine took them; what it refuses changes nothing. */
export async function openImatrix(actions: Actions, { name, file }: LocalFile): Promise<boolean> {
  const { state } = actions
  if (state.run) return false
  try {
    if (!state.origin)
      throw new Failure('usage', `${name} holds importances of a model. Open that model first, then this file.`)
    const used = await actions.useImatrix({ name, file })
    state.imatrix = { ...used, file }
    state.writeOptions.importances = true
    Object.assign(state, {
      notice: null,
      remark: `${name} is used: quantised types are encoded by it, ${collectedOn(used)}.`,
    })
    return true
  } catch (thrown) {
    actions.report(thrown, null)
    return false
  }
}

/** Importances are collected on the calibration text again. */
export async function removeImatrix(actions: Actions): Promise<void> {
  Object.assign(actions.state, { imatrix: null, remark: null })
  try {
    await actions.forgetImatrix()
  } catch (thrown) {
    actions.report(thrown, null)
  }
}

/** Hands out the importances of the result, for llama-quantize: those that it was encoded by, or else collected now. */
export function downloadImatrix(actions: Actions): Promise<boolean> {
  return actions.during('write', async run => {
    const { state } = actions
    await actions.ensureMaps(run)
    const { plan } = state
    if (!plan) throw new Failure('usage', 'Compress first; there is no result yet.')
    const bytes = await actions.call(run, 'imatrixOf', [plan.report.plan, { ...state.writeOptions }])
    saveBlob(`${modelName(actions)}.imatrix.gguf`, new Blob([bytes]))
  })
}

/** What the file says of itself, such as "collected on 6,144 tokens of wiki.train.raw". */
export function collectedOn({ tokens, datasets }: UsedImatrix): string {
  const texts = datasets.map(path => path.split(/[\\/]/).at(-1)).filter(Boolean)
  const of =
    texts.length === 0
      ? 'a text that it does not name'
      : texts.length > 2
        ? plural(texts.length, 'text')
        : texts.join(' and ')
  return `collected on ${whole(tokens)} ${tokens === 1 ? 'token' : 'tokens'} of ${of}`
}
