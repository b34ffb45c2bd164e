// One example: its activation, its place in the corpus, and its tokens on the heat scale.
import { memo, useMemo } from "react";

import type { Example } from "../../gen/featurescope/v1/features_pb.js";
import { formatActivation } from "../../lib/format";
import { joinText } from "../../lib/token";
import { HeatStrip } from "../../strip/HeatStrip";
import { sliceExample, type Context } from "../../strip/strip";
import styles from "./Examples.module.css";

interface Props {
  example: Example;
  largest: number;
  context: Context;
  breaks: boolean;
  onTest: (text: string) => void;
}

export const ExampleRow = memo(function ExampleRow({ example, largest, context, breaks, onTest }: Props) {
  const slice = useMemo(() => sliceExample(example, context), [example, context]);
  const place = `context ${example.context}, position ${example.position}`;
  return (
    <li className={styles.row} data-testid="example">
      <div className={styles.meta}>
        <b>{formatActivation(example.activation)}</b>
        <span title={place}>
          {String(example.context)}:{example.position}
        </span>
      </div>
      <HeatStrip
        tokens={slice.tokens}
        acts={slice.acts}
        max={largest}
        first={slice.first}
        mark={slice.mark}
        breaks={breaks}
        label={`Example, ${place}, activation ${formatActivation(example.activation)}`}
      />
      <button
        type="button"
        className={styles.copy}
        aria-label={`Copy this example into the test box (${place})`}
        title="Copy into the test box"
        onClick={() => onTest(joinText(slice.tokens))}
      >
        Test
      </button>
    </li>
  );
});
