// @ts-check
/** The modules of the npm package: their names, and where their sources are. @type {Record<string, string>} */
export const MODULES = {
  index: 'package/index.ts',
  worker: 'www/engine/worker.ts',
  poolworker: 'www/engine/poolworker.ts',
  heatmap: 'www/share/embed/element.ts',
}

/** Those that others import, whose types are told. */
export const TYPED = ['index', 'heatmap']
