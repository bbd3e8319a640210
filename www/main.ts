import { mount } from 'svelte'
import App from './views/App.svelte'
import './style.css'
import { ownTask } from './later'
import { applyTheme, storedTheme } from './theme'

applyTheme(storedTheme())
// Reading the program is a task already.
void ownTask().then(() => mount(App, { target: document.getElementById('app')! }))
