// The filter of the feature table. Every field is in the URL, written when the typing pauses.
import { useEffect, useRef } from "react";

import { Button } from "../../ui/Button";
import { Card } from "../../ui/Card";
import { Field } from "../../ui/Field";
import { useShortcut } from "../../ui/shortcuts";
import { useDraft } from "../../url/useDraft";
import styles from "./SaeView.module.css";
import { first_page, type ListingState } from "./listing";

interface Props {
  state: ListingState;
  focus: boolean;
  // `replace` is for typing: it makes no step in the browser's history.
  onChange: (patch: Partial<ListingState>, options?: { replace: boolean }) => void;
}

const pause_ms = 300;
const typing = { replace: true };
const cleared = { dmin: undefined, dmax: undefined, mmin: undefined, mmax: undefined, tok: "", alive: true };

export function Filters({ state, focus, onChange }: Props) {
  const search = useRef<HTMLInputElement>(null);
  const [token, setToken] = useDraft(state.tok, (tok) => onChange({ tok, ...first_page }, typing), pause_ms);
  useShortcut("/", () => search.current?.select());
  useEffect(() => {
    if (focus) search.current?.focus();
  }, [focus]);
  const isFiltered =
    state.tok !== "" || !state.alive || [state.dmin, state.dmax, state.mmin, state.mmax].some((v) => v !== undefined);
  return (
    <Card
      title="Filter"
      actions={
        <Button look="quiet" disabled={!isFiltered} onClick={() => onChange({ ...cleared, ...first_page })}>
          Clear
        </Button>
      }
    >
      <div className={styles.filters}>
        <Field label="Token text" hint="In the strongest token or one of the top logits.">
          {(control) => (
            <input
              {...control}
              ref={search}
              type="search"
              placeholder="e.g. king"
              value={token}
              onChange={(e) => setToken(e.target.value)}
              onKeyDown={(e) => {
                if (e.key === "Escape") e.currentTarget.blur();
              }}
            />
          )}
        </Field>
        <Bounds
          label="Density"
          low={state.dmin}
          high={state.dmax}
          limit={1}
          hint="Shares from 0 to 1."
          onLow={(dmin) => onChange({ dmin, ...first_page }, typing)}
          onHigh={(dmax) => onChange({ dmax, ...first_page }, typing)}
        />
        <Bounds
          label="Max activation"
          low={state.mmin}
          high={state.mmax}
          limit={Infinity}
          onLow={(mmin) => onChange({ mmin, ...first_page }, typing)}
          onHigh={(mmax) => onChange({ mmax, ...first_page }, typing)}
        />
        <label className={styles.check}>
          <input
            type="checkbox"
            checked={state.alive}
            onChange={(e) => onChange({ alive: e.target.checked, ...first_page })}
          />
          Only features that ever fired
        </label>
      </div>
    </Card>
  );
}

interface BoundsProps {
  label: string;
  low: number | undefined;
  high: number | undefined;
  limit: number;
  hint?: string;
  onLow: (value: number | undefined) => void;
  onHigh: (value: number | undefined) => void;
}

function Bounds({ label, low, high, limit, hint, onLow, onHigh }: BoundsProps) {
  return (
    <fieldset className={styles.bounds}>
      <legend>{label}</legend>
      <Bound label={`${label}, at least`} placeholder="from" value={low} limit={limit} onChange={onLow} />
      <span aria-hidden="true">–</span>
      <Bound label={`${label}, at most`} placeholder="to" value={high} limit={limit} onChange={onHigh} />
      {hint !== undefined && <p>{hint}</p>}
    </fieldset>
  );
}

interface BoundProps {
  label: string;
  placeholder: string;
  value: number | undefined;
  limit: number;
  onChange: (value: number | undefined) => void;
}

function Bound({ label, placeholder, value, limit, onChange }: BoundProps) {
  const parse = (text: string): number | undefined => {
    const number = text.trim() === "" ? undefined : Number(text);
    return number !== undefined && number >= 0 && number <= limit ? number : undefined;
  };
  const [text, setText] = useDraft(value === undefined ? "" : String(value), (t) => onChange(parse(t)), pause_ms);
  const isWrong = text.trim() !== "" && parse(text) === undefined;
  return (
    <input
      aria-label={label}
      aria-invalid={isWrong || undefined}
      title={isWrong ? `a number from 0${Number.isFinite(limit) ? ` to ${limit}` : ""}` : undefined}
      inputMode="decimal"
      placeholder={placeholder}
      value={text}
      onChange={(e) => setText(e.target.value)}
    />
  );
}
