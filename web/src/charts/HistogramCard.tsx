// A histogram in a card with its "as table" switch, which lives in the URL.
import type { ComponentProps } from "react";

import { Card } from "../ui/Card";
import { Choice } from "../ui/Choice";
import { Term } from "../ui/Term";
import type { DefinitionId } from "../lib/definitions";
import { choiceParam } from "../url/codec";
import { useUrlState } from "../url/useUrlState";
import { Histogram } from "./Histogram";

const codec = { hist: choiceParam(["plot", "table"], "plot") };

interface Props extends Omit<ComponentProps<typeof Histogram>, "asTable"> {
  title: string;
  definition?: DefinitionId;
}

export function HistogramCard({ title, definition, ...rest }: Props) {
  const [{ hist }, set] = useUrlState(codec);
  return (
    <Card
      title={definition ? <Term id={definition}>{title}</Term> : title}
      actions={
        <Choice
          label={`${title}: how to show it`}
          value={hist}
          options={[
            ["plot", "Plot"],
            ["table", "Table"],
          ]}
          onChange={(next) => set({ hist: next })}
        />
      }
    >
      <Histogram {...rest} asTable={hist === "table"} />
    </Card>
  );
}
