/** llama.cpp's worker, put together by `scripts/vite/llama.ts` from the package's own text. */
import 'virtual:llama-worker'
