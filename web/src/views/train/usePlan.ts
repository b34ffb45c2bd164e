// What the server would make of a form, asked when the typing pauses.
import { toJsonString } from "@bufbuild/protobuf";
import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";

import { planQuery } from "../../api/queries";
import type { FormErrors, FormValues } from "../../forms/fields";
import { SweepSpecSchema, type TrainingPlan } from "../../gen/featurescope/v1/training_pb.js";
import { toSweep } from "../../training/sweep";
import { useSettled } from "../../url/useSettled";

export interface PlanState {
  // The latest there was, which may be of other values.
  plan: TrainingPlan | undefined;
  isCurrent: boolean;
  error: unknown;
}

const pause_ms = 350;

export function usePlan(values: FormValues, errors: FormErrors): PlanState {
  const text = Object.keys(errors).length === 0 ? toJsonString(SweepSpecSchema, toSweep(values)) : "";
  const settled = useSettled(text, pause_ms);
  const { data, error } = useQuery(planQuery(settled));
  const [last, setLast] = useState<TrainingPlan | undefined>(undefined);
  useEffect(() => {
    if (data !== undefined) setLast(data);
  }, [data]);
  const isSettled = settled === text && settled !== "";
  return { plan: data ?? last, isCurrent: isSettled && data !== undefined, error: isSettled ? error : null };
}
