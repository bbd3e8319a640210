/** Settings and texts of a result in words, for the report and for the page. */
import type { SimilarityReport } from '../engine/protocol/similarity'
import type { Draw, TextReport } from '../engine/protocol/text'
import { bytes, plural, seconds, whole } from '../ui/format'
import { METRICS } from '../words/metrics'

function drawWords(draw: Draw | undefined): string {
  if (draw === undefined || draw === 'first') return 'the first'
  return draw === 'spread' ? 'spread evenly over all of it' : `at random, seed ${draw.slice('random:'.length)}`
}

export function textWords({ name, sequences, tokens_per_sequence: tokens, tokens_scored: scored }: TextReport): string {
  return sequences > 0
    ? `${name}, ${plural(sequences, 'sequence')} of ${plural(tokens, 'token')}, ${whole(scored)} scored`
    : name
}

/** Name and value of everything that a similarity was made with. */
export function settingsOf({
  options,
  points,
  text,
  device,
  seconds: took,
  peak_memory_bytes: peak,
}: SimilarityReport): [string, string][] {
  return [
    ['Text', textWords(text)],
    ['Parts of it', drawWords(options.draw)],
    ['Points', `${points.rule}, ${whole(points.count)} of them`],
    ['Similarity by', METRICS[options.metric].full],
    ['Map dimensions', String(options.dims)],
    ['Diffusion time', String(options.time)],
    ['Density exponent', String(options.density)],
    ['Scale of states', options.normalise === 'rms' ? 'divided by their root mean square' : 'as they are'],
    ['Bandwidth', options.bandwidth === null ? 'median of squared distances' : String(options.bandwidth)],
    ['Neighbours', String(options.neighbours)],
    ['Computed', `in ${seconds(took)} on ${device.name}${peak > 0 ? `, ${bytes(peak)} at most` : ''}`],
  ]
}
