// Runs one generation at a time; starting, stopping or leaving cancels the one before on the server.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { useCallback, useEffect, useReducer, useRef } from "react";

import { explore } from "../api/client";
import { wasAborted } from "../api/errors";
import type { GenerateRequestSchema } from "../gen/featurescope/v1/explore_pb.js";
import { no_generation, reduceGeneration, type Generation } from "./reducer";

export type GenerationRequest = MessageInitShape<typeof GenerateRequestSchema>;

const limit_ms = 600_000;

export interface GenerationControl {
  generation: Generation;
  start: (request: GenerationRequest) => void;
  stop: () => void;
}

export function useGeneration(): GenerationControl {
  const [generation, dispatch] = useReducer(reduceGeneration, no_generation);
  const running = useRef<AbortController | null>(null);

  const start = useCallback((request: GenerationRequest) => {
    running.current?.abort();
    const controller = new AbortController();
    running.current = controller;
    const isCurrent = () => running.current === controller && !controller.signal.aborted;
    const run = async () => {
      dispatch({ type: "start" });
      try {
        const stream = explore.generate(request, { signal: controller.signal, timeoutMs: limit_ms });
        for await (const event of stream) {
          if (!isCurrent()) return;
          dispatch({ type: "event", event });
        }
        if (isCurrent()) dispatch({ type: "end" });
      } catch (error) {
        if (isCurrent() && !wasAborted(error, controller.signal)) dispatch({ type: "fail", error });
      }
    };
    void run();
  }, []);

  const stop = useCallback(() => {
    running.current?.abort();
    dispatch({ type: "stop" });
  }, []);

  useEffect(() => () => running.current?.abort(), []);
  return { generation, start, stop };
}
