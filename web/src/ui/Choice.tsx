// One of a few, as a row of joined buttons.
import * as ToggleGroup from "@radix-ui/react-toggle-group";

import styles from "./Choice.module.css";

interface Props<T extends string> {
  label: string;
  value: T;
  options: readonly (readonly [T, string])[];
  onChange: (value: T) => void;
}

export function Choice<T extends string>({ label, value, options, onChange }: Props<T>) {
  return (
    <ToggleGroup.Root
      type="single"
      className={styles.group}
      aria-label={label}
      value={value}
      onValueChange={(next) => {
        if (next !== "") onChange(next as T);
      }}
    >
      {options.map(([option, text]) => (
        <ToggleGroup.Item key={option} value={option} className={styles.item}>
          {text}
        </ToggleGroup.Item>
      ))}
    </ToggleGroup.Root>
  );
}
