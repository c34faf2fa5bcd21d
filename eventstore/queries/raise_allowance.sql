-- The larger of what is known and what was learnt, part by part: gateways learn side by side.
insert into allowance as known (model, prompt, prompt_permille, answer, uncapped, cost_permille)
values (@model, @prompt, @prompt_permille, @answer, @uncapped, @cost_permille)
on conflict (model) do update set
    prompt          = greatest(known.prompt, excluded.prompt),
    prompt_permille = greatest(known.prompt_permille, excluded.prompt_permille),
    answer          = greatest(known.answer, excluded.answer),
    uncapped        = known.uncapped or excluded.uncapped,
    cost_permille   = greatest(known.cost_permille, excluded.cost_permille),
    raised_at       = clock_timestamp()
