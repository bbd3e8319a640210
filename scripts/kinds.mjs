// @ts-check
/**
 * Makes what the guided walk shows of models whose layers are of different kinds: `node scripts/kinds.mjs LAMINATE
 * JAMBA_DIR MIXTRAL_DIR`, with the path of the command line and the two models that `tests/data/make_kinds.py` trains.
 * `www/walk/kinds.json` gets the similarities of each model's layers, below the diagonal, and what each layer is.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ask } from './command.mjs'
import { root } from './paths.mjs'

/** As the demo is looked at, on stories that neither model has read. */
const SETTINGS = [
  '--text',
  join(root, 'src/demo/evaluation.txt'),
  '--samples',
  '128',
  '--tokens',
  '48',
  '--draw',
  'first',
  '--points',
  'last',
  '--device',
  'cpu',
  '--json',
]

/** Of a model all of whose layers are alike the report says no kinds. */
const MIXTRAL = 'attention and experts'

/** @param {string} laminate @param {string} name @param {string} folder */
function seen(laminate, name, folder) {
  const printed = ask(laminate, ['similarity', folder, ...SETTINGS])
  if (!printed) throw new Error(`${laminate} did not compare the layers of ${folder}`)
  const { model, similarity, perplexity, text } = JSON.parse(printed)
  return {
    name,
    parameters: model.parameters,
    experts: model.experts,
    kinds: model.kinds ?? Array.from({ length: model.layers }, () => MIXTRAL),
    similarity: similarity.map((/** @type {number[]} */ row, /** @type {number} */ layer) =>
      row.slice(0, layer + 1).map(value => Number(value.toFixed(4))),
    ),
    perplexity: Number(perplexity.toPrecision(4)),
    sequences: text.sequences,
    tokens: text.tokens_per_sequence,
  }
}

const [laminate, jamba, mixtral] = process.argv.slice(2)
if (!laminate || !jamba || !mixtral) throw new Error('usage: node scripts/kinds.mjs LAMINATE JAMBA_DIR MIXTRAL_DIR')
writeFileSync(
  join(root, 'www/walk/kinds.json'),
  `${JSON.stringify([seen(laminate, 'Jamba', jamba), seen(laminate, 'Mixtral', mixtral)])}\n`,
)
