/** How the result is run elsewhere: a line for each program that loads it. */
import type { Container } from '../engine/protocol/model'

export interface RunElsewhere {
  program: string
  line: string
}

/** `name` is the file of a GGUF model, the first where there are several, or the folder of a Hugging Face model. */
export function runElsewhere(container: Container, name: string): RunElsewhere[] {
  if (container === 'gguf') {
    const short = name
      .replace(/(-\d{5}-of-\d{5})?\.gguf$/i, '')
      .toLowerCase()
      .replace(/[^a-z0-9._-]+/g, '-')
    return [
      { program: 'llama.cpp', line: `llama-cli -m ${quoted(name)}` },
      {
        program: 'Ollama',
        line: `echo ${quoted(`FROM ./${name}`)} > Modelfile && ollama create ${short} -f Modelfile && ollama run ${short}`,
      },
      { program: 'LM Studio', line: `lms import ${quoted(name)}` },
    ]
  }
  return [
    {
      program: 'transformers',
      line: `python -c 'from transformers import pipeline; print(pipeline("text-generation", ${JSON.stringify(name)})("Once upon a time"))'`,
    },
    { program: 'vLLM', line: `vllm serve ./${quoted(name)}` },
  ]
}

/** For a shell: as it is where that is safe, else in quotation marks. */
function quoted(word: string): string {
  return /^[\w./-]+$/.test(word) ? word : `"${word.replace(/["$`\\]/g, '\\$&')}"`
}
