// A schedule in words, as it is typed.

import { make, showTimes } from './common.js';

export function describeSchedule(field, output) {
    let waiting = null;

    function say(described) {
        output.textContent = described.words + (described.time_zone ? ` (${described.time_zone})` : '');
        described.next_due_at.forEach((moment, i) => {
            output.append(i ? ', ' : '; next ', make('time', { dateTime: moment }));
        });
        showTimes(output);
    }

    async function describe() {
        const asked = field.value;
        if (!asked) {
            output.textContent = '';
            return;
        }
        const answer = await fetch(`/schedules/describe?schedule=${encodeURIComponent(asked)}`);
        const described = await answer.json();
        if (field.value !== asked) return; // the user has typed more
        if (answer.ok) say(described);
        else output.textContent = `${described.error.message}. ${described.error.hint ?? ''}`;
    }

    field?.addEventListener('input', () => {
        clearTimeout(waiting);
        waiting = setTimeout(() => describe().catch(() => {}), 300);
    });
}
