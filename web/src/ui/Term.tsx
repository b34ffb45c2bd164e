// A word with its definition on hover and on focus.
import * as Tooltip from "@radix-ui/react-tooltip";
import type { ReactNode } from "react";

import { definitions, type Definition, type DefinitionId } from "../lib/definitions";
import styles from "./Term.module.css";

export function Term({ id, children }: { id: DefinitionId; children?: ReactNode }) {
  const definition: Definition = definitions[id];
  return (
    <Tip text={definition.text} formula={definition.formula} id={id}>
      {children ?? definition.label}
    </Tip>
  );
}

interface TipProps {
  text: string;
  formula?: string | undefined;
  id?: string;
  children: ReactNode;
}

export function Tip({ text, formula, id, children }: TipProps) {
  return (
    <Tooltip.Root>
      <Tooltip.Trigger type="button" className={styles.term} data-definition={id}>
        {children}
      </Tooltip.Trigger>
      <Tooltip.Portal>
        <Tooltip.Content className={styles.tip} sideOffset={6} collisionPadding={8}>
          <p>{text}</p>
          {formula !== undefined && <p className={styles.formula}>{formula}</p>}
        </Tooltip.Content>
      </Tooltip.Portal>
    </Tooltip.Root>
  );
}
