// Steering: change the feature while the model writes, and see both texts and the proof.
import { useQuery } from "@tanstack/react-query";
import { useEffect, useRef } from "react";

import { modelsQuery } from "../../../api/queries";
import { GeneratedText } from "../../../generate/GeneratedText";
import { ProofCard } from "../../../generate/ProofCard";
import { commonTokens } from "../../../generate/reducer";
import { useGeneration } from "../../../generate/useGeneration";
import { Button } from "../../../ui/Button";
import { Card } from "../../../ui/Card";
import { ErrorNote } from "../../../ui/ErrorNote";
import { useShortcut } from "../../../ui/shortcuts";
import { useUrlState } from "../../../url/useUrlState";
import { SteerControls } from "./SteerControls";
import styles from "./SteerCard.module.css";
import { steeringCodec, toRequest, type Steering } from "./steering";

interface Props {
  model: string;
  sae: string;
  feature: number;
  largest: number;
}

export function SteerCard({ model, sae, feature, largest }: Props) {
  const [state, set] = useUrlState(steeringCodec);
  const has_chat = useQuery(modelsQuery).data?.find((m) => m.id === model)?.hasChatTemplate ?? false;
  const { generation, start, stop } = useGeneration();
  const card = useRef<HTMLDivElement>(null);
  const { status } = generation;
  const isRunning = status === "running";

  const run = () => {
    start(toRequest(model, sae, feature, state));
    set({ run: true, steer: true }, { replace: true });
  };
  const change = (patch: Partial<Steering>, replace = true) => set({ ...patch, run: false }, { replace });

  // A link that was made from a finished run shows it again: same seed, same text.
  const isAsked = state.run && status === "idle";
  useEffect(() => {
    if (isAsked) start(toRequest(model, sae, feature, state));
    // Only when an address asks for it: changes of the controls do not start anything.
  }, [isAsked]);

  useShortcut("s", () => {
    set({ steer: true }, { replace: true });
    window.requestAnimationFrame(() => {
      card.current?.scrollIntoView({ block: "nearest" });
      card.current?.querySelector<HTMLElement>("textarea")?.focus();
    });
  });

  const common = commonTokens(generation);
  const differs = common < generation.steered.tokens.length ? common : undefined;
  const isStale = !state.run && (status === "finished" || status === "stopped");
  return (
    <div ref={card} id="steer" className={styles.card}>
      <Card
        title="Steer"
        note={state.steer ? undefined : "Change this feature while the model writes"}
        actions={
          <Button look="quiet" aria-expanded={state.steer} onClick={() => set({ steer: !state.steer })}>
            {state.steer ? "Close" : "Open"} <kbd>s</kbd>
          </Button>
        }
        flush
      >
        {state.steer && (
          <div className={styles.body}>
            <SteerControls state={state} largest={largest} has_chat={has_chat} onChange={change} onRun={run}>
              <Button look="primary" onClick={run} disabled={isRunning}>
                Generate
              </Button>
              <Button onClick={stop} disabled={!isRunning}>
                Stop
              </Button>
            </SteerControls>
            <p className="sr-only" role="status" data-testid="generation-status">
              {status}
            </p>
            {status === "failed" && <ErrorNote error={generation.error} />}
            {status !== "idle" && (
              <>
                {isStale && status === "finished" && (
                  <p className={styles.stale}>The settings have changed since this text was made.</p>
                )}
                <div className={styles.panes} data-testid="generation" data-status={status}>
                  <GeneratedText title="Default" prompt={generation.prompt} branch={generation.baseline} running={isRunning} />
                  <GeneratedText
                    title="Steered"
                    prompt={generation.prompt}
                    branch={generation.steered}
                    running={isRunning}
                    differs_at={differs}
                  />
                </div>
                {generation.proofs.map((proof, i) => (
                  <ProofCard key={i} proof={proof} generation={generation} />
                ))}
              </>
            )}
          </div>
        )}
      </Card>
    </div>
  );
}
