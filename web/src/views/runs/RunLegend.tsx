// The runs by their colours and marks; each is a switch. Pointing at one lets it stand out in all charts.
import { lookOf, markPath } from "../../charts/series";
import type { Run } from "../../training/runs";
import styles from "./Runs.module.css";
import type { RunsView } from "./state";

export function Swatch({ index }: { index: number }) {
  const { colour, dash, mark } = lookOf(index);
  return (
    <svg className={styles.swatch} width="24" height="12" viewBox="-12 -6 24 12" aria-hidden="true">
      <line x1={-12} x2={12} y1={0} y2={0} stroke={`var(${colour})`} strokeWidth={1.8} strokeDasharray={dash.join(" ")} />
      <path d={markPath(mark, 8)} fill={`var(${colour})`} />
    </svg>
  );
}

export function RunLegend({ runs, view, hasHeldOut }: { runs: readonly Run[]; view: RunsView; hasHeldOut: boolean }) {
  if (runs.length === 1) {
    return hasHeldOut ? (
      <p className={styles.pair}>
        <Line index={0} dash="" /> trained on <Line index={1} dash="7 4" /> held out
      </p>
    ) : null;
  }
  return (
    <div className={styles.legend} role="group" aria-label="Runs that are shown" data-testid="legend">
      {runs.map((run) => (
        <button
          key={run.key}
          type="button"
          aria-pressed={!view.isHidden(run.key)}
          onClick={() => view.toggle(run.key)}
          onPointerEnter={() => view.setFocus(run.key)}
          onPointerLeave={() => view.setFocus(null)}
          onFocus={() => view.setFocus(run.key)}
          onBlur={() => view.setFocus(null)}
        >
          <Swatch index={run.index} />
          <span>{run.sae}</span>
        </button>
      ))}
      {hasHeldOut && <span className={styles.note}>dashed: held-out tokens</span>}
    </div>
  );
}

function Line({ index, dash }: { index: number; dash: string }) {
  return (
    <svg width="24" height="8" viewBox="0 0 24 8" aria-hidden="true">
      <line x1={0} x2={24} y1={4} y2={4} stroke={`var(${lookOf(index).colour})`} strokeWidth={1.8} strokeDasharray={dash} />
    </svg>
  );
}
