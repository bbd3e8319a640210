import { mount } from 'svelte'
import App from './views/App.svelte'
import './style.css'
import { applyTheme, storedTheme } from './theme'

applyTheme(storedTheme())
// In a task of its own: reading the program is one already.
setTimeout(() => mount(App, { target: document.getElementById('app')! }))
