// What forms are made of: fields, choices, and the button with the server's answer.
import { useState, type FormEvent, type ReactNode } from "react";

import { describeError, violationOf } from "../api/errors";
import { Button } from "../ui/Button";
import { Card } from "../ui/Card";
import { ErrorNote } from "../ui/ErrorNote";
import { Field } from "../ui/Field";
import styles from "./Form.module.css";
import type { NumberField } from "./fields";
import type { Shared } from "./useForm";

// What is wrong with a field: found here, or told by the server.
export function errorOf({ errors, failure }: Shared, name: string): string | undefined {
  return errors[name] ?? violationOf(failure, name);
}

export function NumberFields({ fields, ...shared }: Shared & { fields: NumberField[] }) {
  return fields.map((field) => (
    <Field key={field.name} label={field.label} hint={field.hint} error={errorOf(shared, field.name)}>
      {(control) => (
        <input
          {...control}
          name={field.name}
          inputMode="decimal"
          placeholder={field.unset === undefined ? "" : `default: ${field.unset}`}
          value={shared.values[field.name] ?? ""}
          onChange={(e) => shared.onChange(field.name, e.target.value)}
        />
      )}
    </Field>
  ));
}

interface TextFieldProps extends Shared {
  name: string;
  label: string;
  hint?: string;
  suggestions?: string[];
}

export function TextField({ name, label, hint, suggestions, ...shared }: TextFieldProps) {
  const list = suggestions === undefined ? undefined : `${name}-suggestions`;
  return (
    <Field label={label} hint={hint} error={errorOf(shared, name)}>
      {(control) => (
        <>
          <input
            {...control}
            name={name}
            className="mono"
            list={list}
            spellCheck={false}
            autoComplete="off"
            value={shared.values[name] ?? ""}
            onChange={(e) => shared.onChange(name, e.target.value)}
          />
          {suggestions && (
            <datalist id={list}>
              {suggestions.map((suggestion) => (
                <option key={suggestion} value={suggestion} />
              ))}
            </datalist>
          )}
        </>
      )}
    </Field>
  );
}

interface SelectFieldProps extends Shared {
  name: string;
  label: string;
  hint?: string;
  options: [string, string][];
}

export function SelectField({ name, label, hint, options, ...shared }: SelectFieldProps) {
  const value = shared.values[name] ?? "";
  return (
    <Field label={label} hint={hint} error={errorOf(shared, name)}>
      {(control) => (
        <select {...control} name={name} value={value} onChange={(e) => shared.onChange(name, e.target.value)}>
          {!options.some(([id]) => id === value) && <option value={value}>{value === "" ? "choose…" : value}</option>}
          {options.map(([id, text]) => (
            <option key={id} value={id}>
              {text}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

// Several lines of text, e.g. one path a line.
export function LinesField({ name, label, hint, ...shared }: Shared & { name: string; label: string; hint?: string }) {
  return (
    <div className={styles.wide}>
      <Field label={label} hint={hint} error={errorOf(shared, name)}>
        {(control) => (
          <textarea
            {...control}
            name={name}
            className="mono"
            rows={3}
            spellCheck={false}
            value={shared.values[name] ?? ""}
            onChange={(e) => shared.onChange(name, e.target.value)}
          />
        )}
      </Field>
    </div>
  );
}

export function CheckField({ name, label, ...shared }: Shared & { name: string; label: string }) {
  return (
    <label className={styles.check}>
      <input
        type="checkbox"
        name={name}
        checked={shared.values[name] === "1"}
        onChange={(e) => shared.onChange(name, e.target.checked ? "1" : "")}
      />
      {label}
    </label>
  );
}

export function Grid({ children }: { children: ReactNode }) {
  return <div className={styles.grid}>{children}</div>;
}

// The fields that few need; open as soon as one of them is wrong.
export function MoreSettings({ names, children, ...shared }: Shared & { names: string[]; children: ReactNode }) {
  const [isOpen, setOpen] = useState(false);
  const isWrong = names.some((name) => errorOf(shared, name) !== undefined);
  return (
    <details open={isOpen || isWrong} onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary>More settings</summary>
      {children}
    </details>
  );
}

interface FormPageProps {
  title: string;
  note?: ReactNode;
  card?: string;
  // The button's text, and what stands beside it.
  button: string;
  beside?: ReactNode;
  form: { busy: boolean; error: unknown; known: string[]; onSubmit: (event: FormEvent) => void };
  // What stands beside the form, or under it where there is no room.
  aside?: ReactNode;
  children: ReactNode;
}

// A page with one form. The server's message is shown whole unless all of it already stands at the fields.
export function FormPage({ title, note, card = "Specification", button, beside, form, aside, children }: FormPageProps) {
  const failure = form.error ? describeError(form.error) : undefined;
  const isAtFields =
    failure !== undefined &&
    failure.violations.length > 0 &&
    failure.violations.every((v) => form.known.some((name) => v.field === name || v.field.endsWith(`.${name}`)));
  return (
    <div className={aside === undefined ? styles.form : `${styles.form} ${styles.withAside}`}>
      <header className={styles.head}>
        <h1>{title}</h1>
        {note !== undefined && <p>{note}</p>}
      </header>
      <Card title={card}>
        <form onSubmit={form.onSubmit} noValidate>
          {children}
          {failure && !isAtFields && <ErrorNote error={form.error} />}
          <div className={styles.submit}>
            <Button look="primary" type="submit" disabled={form.busy}>
              {form.busy ? "Submitting…" : button}
            </Button>
            {beside}
          </div>
        </form>
      </Card>
      {aside !== undefined && <aside className={styles.aside}>{aside}</aside>}
    </div>
  );
}
