// The page of a view: what changes by itself, and a schedule in words as it is typed.

import './live.js';
import { describeSchedule } from './schedule.js';

if (document.querySelector('[data-done=create]')) sessionStorage.removeItem('tinydevcrm-view');

const schedule = document.getElementById('schedule-schedule');
describeSchedule(schedule, document.getElementById('schedule-when'));

for (const button of document.querySelectorAll('.presets button')) {
    button.addEventListener('click', () => {
        schedule.value = button.textContent;
        schedule.dispatchEvent(new Event('input', { bubbles: true }));
    });
}
