// The environment of a script: its view of the run, and a console. Separate from the script, which may change the
// built-in objects of the language.
(function (text, now, linesMax, charsMax) {
    'use strict';
    const { parse, stringify } = JSON;
    const { ownKeys, construct } = Reflect;
    const lower = Function.prototype.call.bind(String.prototype.toLowerCase);
    const codes = new WeakMap();

    function refuse(code, message) {
        const error = new Error(message);
        codes.set(error, code);
        throw error;
    }
    function readOnly() {
        refuse('InlineCodeCannotModifyWorkflowContext', 'workflowContext cannot be changed');
    }
    const guards = {
        set: readOnly,
        defineProperty: readOnly,
        deleteProperty: readOnly,
        setPrototypeOf: readOnly,
        preventExtensions: readOnly,
    };

    const data = parse(text);
    const actions = {};
    const known = new Map();
    for (const name of ownKeys(data.actions)) {
        actions[name] = data.actions[name] ?? undefined;
        known.set(lower(name), name);
    }
    const spelled = (name) => (typeof name === 'string' ? known.get(lower(name)) ?? name : name);
    const actionsView = new Proxy(actions, {
        ...guards,
        has: (_, name) => spelled(name) in actions,
        get(_, name) {
            const own = spelled(name);
            if (own in actions) return actions[own];
            if (typeof name === 'symbol' || name === 'toJSON' || name === 'then') return undefined;
            return refuse(
                'InlineCodeOperationMissing',
                `workflowContext has no action '${name}'. A name that the code computes, or that is taken in another way ` +
                    "than workflowContext.actions.Name, belongs in explicitDependencies.actions");
        },
    });
    const members = { workflow: data.workflow, actions: actionsView };
    if (data.trigger !== undefined) members.trigger = data.trigger;
    const view = new Proxy(members, {
        ...guards,
        get(_, name) {
            if (name === 'trigger' && !(name in members)) {
                return refuse(
                    'InlineCodeOperationMissing',
                    'workflowContext has no trigger here; explicitDependencies.includeTrigger adds it');
            }
            if (name in members) return members[name];
            if (typeof name === 'symbol' || name === 'toJSON' || name === 'then') return undefined;
            return refuse(
                'InlineCodeInvalidProperty',
                `workflowContext has no member '${name}': there are workflow, trigger and actions`);
        },
    });

    if (now !== undefined) {
        const System = Date;
        System.now = () => now;
        const Standing = new Proxy(System, {
            construct: (_, values, target) => construct(System, values.length ? values : [now], target),
            apply: () => new System(now).toString(),
        });
        System.prototype.constructor = Standing;
        globalThis.Date = Standing;
    }

    function show(value) {
        if (typeof value === 'string') return value;
        if (typeof value === 'object' && value !== null && 'message' in value && 'name' in value) {
            return `${value.name}: ${value.message}`;
        }
        try {
            return stringify(value) ?? String(value);
        } catch {
            return String(value);
        }
    }
    const lines = [];
    const write = (...values) => {
        if (lines.length < linesMax) {
            let line = '';
            for (const value of values) line += (line && ' ') + show(value);
            lines[lines.length] = line.slice(0, charsMax);
        }
    };
    globalThis.console = { log: write, info: write, warn: write, error: write, debug: write, trace: write };

    return {
        view,
        lines,
        show,
        code: (error) => codes.get(error),
        stack: (error) => (error !== null && typeof error === 'object' ? String(error.stack) : ''),
        json: (value) => stringify(value),
    };
})
