/** The result goes to a repository of the user's on a hub: first what would be sent is shown, then it is sent. */
import type { Actions } from '../../app/actions'
import type { Made } from '../../app/made'
import type { Run, Saved, State } from '../../app/state.svelte'
import { matrixSvg } from '../../charts/matrixfigure'
import { Failure, isCancelled, toEngineError } from '../../engine/errors'
import { PATIENCE, type Net } from '../../engine/fetching'
import type { WriteOptions } from '../../engine/protocol/output'
import { fileOf } from '../../figures/figure'
import { parseEndpoint } from '../../open'
import { recipeOf } from '../../share'
import { bytes } from '../../ui/format'
import { METRICS } from '../../words/metrics'
import { noDownloads, saveInStorage, writtenFiles } from '../save'
import { CARD, cardOf, cardWith, PICTURE, RECIPE } from './card'
import type { Parcel, SentFile, Tell } from './upload'
import { whyNoName } from './names'
import { Sent } from './sent'

/** What the user asks for. */
export interface Wishes {
  /** `name`, or `organisation/name`. */
  name: string
  isPublic: boolean
  token: string
  /** Address of the hub, as it was typed. */
  endpoint: string
}

/** What would be sent, and where to. */
export interface Prepared extends Parcel {
  hub: string
  bytes: number
  wishes: Wishes
  /** What was written: another result needs another look. */
  of: Made<Saved, WriteOptions>
  /** How far the sending has come; a repository that was made here is not made again. */
  state: 'ready' | 'begun' | 'sent'
}

/** Parts of files that hubs have taken from this page. */
const sent = new Sent()

const ADVICE = {
  offline: 'Connect it, then go on; what has arrived there is not sent again.',
  unreachable: 'Check the address of the server and the connection.',
}

/**
 * Finds out what would be sent and where to. Writes the model into the private storage if it lies nowhere yet, and sends
 * none of it.
 */
export async function prepare(actions: Actions, wishes: Wishes): Promise<Prepared | null> {
  let prepared: Prepared | null = null
  await actions.during('push', async run => {
    const { state } = actions
    const hub = parseEndpoint(wishes.endpoint)
    const problem = whyNoName(wishes.name)
    if (problem) throw new Failure('usage', problem)
    if (wishes.token.trim() === '')
      throw new Failure('usage', `Give a token that may write first; you make one at ${hub}/settings/tokens.`)
    const { destination } = await uploadParts()
    tell(actions, 'send', 0, 0, 'a question to the hub: who the token belongs to')
    const found = await destination(wishes.name.trim(), {
      hub,
      token: wishes.token.trim(),
      sent,
      net: { ...netOf(run), opening: () => {} },
    })
    const files = await filesToSend(actions, run)
    prepared = {
      ...found,
      hub,
      wishes,
      files,
      isPublic: found.existing ? !found.existing.isPrivate : wishes.isPublic,
      title: `Model with ${state.plan?.report.layers.after} of ${state.plan?.report.layers.before} layers, made by Laminate`,
      bytes: files.reduce((sum, { content }) => sum + content.size, 0),
      of: state.saved!,
      state: 'ready',
    }
  })
  return prepared
}

/** Sends what was shown. True when all of it has arrived; `prepared.state` says how far it came. */
export function push(actions: Actions, prepared: Prepared): Promise<boolean> {
  const { hub, repository, wishes } = prepared
  return actions.during('push', async run => {
    const { make, send } = await uploadParts()
    const reach = { hub, repository, token: wishes.token.trim(), sent, net: netOf(run) }
    const told: Tell = (stage, done, total) => tell(actions, stage, done, total, `${bytes(done)} of ${bytes(total)}`)
    try {
      if (!prepared.existing && prepared.state === 'ready') await make(prepared, reach)
      prepared.state = 'begun'
      await send(prepared, reach, told)
      prepared.state = 'sent'
    } catch (thrown) {
      if (!isCancelled(toEngineError(thrown))) throw thrown
      throw new Failure('cancelled', `Stopped. What ${repository} has of it is not sent again when you go on.`)
    }
  })
}

/** Where the model came from, if that is a repository of the same hub. */
export function baseModel({ origin }: Pick<State, 'origin'>, hub: string): string | null {
  const [file] = origin === 'demo' || !origin ? [] : origin.files
  if (!file || !('url' in file) || !file.url.startsWith(`${hub}/`)) return null
  return /^([\w.-]+\/[\w.-]+)\/resolve\//.exec(file.url.slice(hub.length + 1))?.[1] ?? null
}

function netOf(run: Run): Net {
  return { signal: () => run.controller.signal, patience: PATIENCE, advice: ADVICE }
}

function tell(actions: Actions, stage: 'read' | 'send', done: number, total: number, detail: string): void {
  actions.observe({ progress: { stage, done, total, unit: 'bytes', detail } })
}

/** All that was written, with a picture of the similarities, and the card with the picture in it. */
async function filesToSend(actions: Actions, run: Run): Promise<SentFile[]> {
  const { state } = actions
  let written = await writtenFiles(state)
  if (!written) {
    const trouble = noDownloads(state)
    if (trouble) throw new Failure('source', `${trouble} Write the model into a folder first, then send it from there.`)
    await saveInStorage(actions, run)
    written = await writtenFiles(state)
  }
  const { maps, plan, saved } = state
  if (!written || !maps || !plan || !saved) throw new Failure('usage', 'Compress first; there is nothing to send yet.')
  const recipe = recipeOf({
    model: maps.report.model,
    maps: maps.report,
    plan: { ...plan.report, output: saved.options },
    options: plan.options,
  })!
  const alt = `Similarity by ${METRICS[maps.report.metric].full} of the ${maps.report.layers} layers of ${maps.report.model.name}; frames are layers that became one`
  const drawn = () => matrixSvg(maps.report, plan.report.plan.groups, alt)
  const { blob } = await fileOf({ name: 'similarity', what: 'the similarity', drawn }, 'png')
  const known = written.find(({ name }) => name === CARD)
  const card = known ? await known.text() : cardOf(recipe, plan.report)
  const base = baseModel(state, parseEndpoint(state.remote.endpoint))
  const made: SentFile[] = [
    { path: CARD, content: new Blob([cardWith(card, { alt, base })], { type: 'text/markdown' }) },
    { path: PICTURE, content: blob },
  ]
  if (!written.some(({ name }) => name === RECIPE))
    made.push({
      path: RECIPE,
      content: new Blob([JSON.stringify(recipe, null, 2), '\n'], { type: 'application/json' }),
    })
  return [...made, ...written.filter(file => file !== known).map(file => ({ path: file.name, content: file }))]
}

/** What sends is loaded when something is to be sent, and not before. */
function uploadParts() {
  return import('./upload').catch(() => {
    throw new Failure('source', 'A part of this page could not be loaded. Reload the page.')
  })
}
