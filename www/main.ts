import { mount } from 'svelte'
import App from './views/App.svelte'
import './style.css'
import { applyTheme, storedTheme } from './theme'

applyTheme(storedTheme())
mount(App, { target: document.getElementById('app')! })
