// Presses the button of a form that leads back to the app (response_mode=form_post).
'use strict'
document.querySelector('form[data-submit]')?.submit()
