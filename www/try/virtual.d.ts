declare module 'virtual:llama-worker'
